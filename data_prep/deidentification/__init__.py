"""What takes the identity out of DICOM objects, and finds what may be left of it in their pixels."""
