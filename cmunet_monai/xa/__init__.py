"""Read XA DICOM and choose the frame of a cine, with numpy and pydicom alone: no torch, no MONAI."""
