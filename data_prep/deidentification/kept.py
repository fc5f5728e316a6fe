"""The attributes of an XA object that its de-identified copy has, by keyword; every other one goes.

They are what the X-Ray Angiographic Image IOD (PS3.3 A.14) and the Enhanced one (A.47) need to be shown and measured,
and what `cmunet_monai.readers` uses. Words are limited to terms of the standard. The same lists hold at every depth.
"""

from collections.abc import Mapping

UIDS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
)
DATES = (
    *("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"),
    *("AcquisitionDateTime", "FrameAcquisitionDateTime", "FrameReferenceDateTime"),
)
NUMBERS = (
    *("SeriesNumber", "InstanceNumber", "AcquisitionNumber", "FrameAcquisitionNumber", "ReferencedFrameNumber"),
    # image pixel (C.7.6.3), compression
    *("SamplesPerPixel", "NumberOfFrames", "Rows", "Columns", "PixelAspectRatio"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "LossyImageCompressionRatio"),
    # cine and multi-frame (C.7.6.5, C.7.6.6), mask (C.7.6.10)
    *("FrameTime", "FrameTimeVector", "FrameDelay", "ActualFrameDuration", "FrameAcquisitionDuration", "StartTrim"),
    *("StopTrim", "CineRate", "RecommendedDisplayFrameRate", "RecommendedDisplayFrameRateInFloat"),
    *("PreferredPlaybackSequencing", "RepresentativeFrameNumber", "ApplicableFrameRange", "MaskFrameNumbers"),
    *("MaskSubPixelShift", "ContrastFrameAveraging", "TIDOffset"),
    *("NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime", "RRIntervalTimeNominal"),
    # look-up tables and windows (C.11.1, C.11.2)
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "LUTDescriptor"),
    "PixelIntensityRelationshipSign",
    # shutter (C.7.6.11) and collimator (C.8.7.3)
    *("ShutterLeftVerticalEdge", "ShutterRightVerticalEdge", "ShutterUpperHorizontalEdge"),
    *("ShutterLowerHorizontalEdge", "CenterOfCircularShutter", "RadiusOfCircularShutter"),
    *("VerticesOfThePolygonalShutter", "ShutterPresentationValue"),
    *("CollimatorLeftVerticalEdge", "CollimatorRightVerticalEdge", "CollimatorUpperHorizontalEdge"),
    *("CollimatorLowerHorizontalEdge", "CenterOfCircularCollimator", "RadiusOfCircularCollimator"),
    "VerticesOfThePolygonalCollimator",
    # exposure (C.8.7.2)
    *("KVP", "XRayTubeCurrent", "XRayTubeCurrentInmA", "Exposure", "ExposureTime", "ExposureTimeInms"),
    *("AveragePulseWidth", "IntensifierSize", "FieldOfViewDimensions"),
    # positioner (C.8.7.5) and spacing (10.7)
    *("PositionerPrimaryAngle", "PositionerSecondaryAngle"),
    *("PositionerPrimaryAngleIncrement", "PositionerSecondaryAngleIncrement"),
    *("DistanceSourceToDetector", "DistanceSourceToPatient", "DistanceSourceToIsocenter"),
    *("EstimatedRadiographicMagnificationFactor", "ImagerPixelSpacing", "PixelSpacing"),
    *("ObjectPixelSpacingInCenterOfBeam", "DistanceObjectToTableTop", "BeamAngle"),
)
SEQUENCES = (
    *("ModalityLUTSequence", "VOILUTSequence", "MaskSubtractionSequence"),
    *("ReferencedImageSequence", "SourceImageSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "FrameContentSequence"),
    *("FramePixelDataPropertiesSequence", "PixelValueTransformationSequence", "FrameVOILUTSequence"),
    *("FrameDisplayShutterSequence", "FrameAcquisitionSequence", "ProjectionPixelCalibrationSequence"),
    *("PositionerPositionSequence", "XRayGeometrySequence", "CardiacSynchronizationSequence"),
    "PixelMeasuresSequence",
)
POINTERS: Mapping[str, frozenset[int]] = {"FrameIncrementPointer": frozenset({0x00181063, 0x00181065})}
"""To Frame Time and Frame Time Vector."""

_SHAPES = frozenset({"RECTANGULAR", "CIRCULAR", "POLYGONAL"})
_MOTIONS = frozenset({"STATIC", "DYNAMIC"})
_LUT_TYPES = frozenset({"OD", "HU", "US"})
TERMS: Mapping[str, frozenset[str]] = {
    "Modality": frozenset({"XA", "RF"}),
    "PhotometricInterpretation": frozenset({"MONOCHROME1", "MONOCHROME2"}),
    "PixelIntensityRelationship": frozenset({"LIN", "LOG", "DISP", "SQRT", "OTHER"}),
    "PresentationLUTShape": frozenset({"IDENTITY", "INVERSE"}),
    "ModalityLUTType": _LUT_TYPES,
    "RescaleType": _LUT_TYPES,
    "VOILUTFunction": frozenset({"LINEAR", "LINEAR_EXACT", "SIGMOID"}),
    "LossyImageCompression": frozenset({"00", "01"}),
    "LossyImageCompressionMethod": frozenset({"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_13818_2"}),
    "RecommendedViewingMode": frozenset({"NAT", "SUB"}),
    "MaskOperation": frozenset({"NONE", "AVG_SUB", "TID", "REV_TID"}),
    "BodyPartExamined": frozenset({"HEART", "CHEST", "AORTA", "CORONARYARTERY"}),
    "RadiationSetting": frozenset({"GR", "SC"}),
    "PositionerType": frozenset({"CARM", "COLUMN"}),
    "PositionerMotion": _MOTIONS,
    "TableMotion": _MOTIONS,
    "PixelSpacingCalibrationType": frozenset({"GEOMETRY", "FIDUCIAL"}),
    "FieldOfViewShape": frozenset({"ROUND", "RECTANGLE", "HEXAGONAL"}),
    "ShutterShape": _SHAPES,
    "CollimatorShape": _SHAPES,
    "GeometricalProperties": frozenset({"UNIFORM", "NON_UNIFORM"}),
    "PlaneIdentification": frozenset({"MONOPLANE", "PLANE A", "PLANE B"}),
    "ContentQualification": frozenset({"PRODUCT", "RESEARCH", "SERVICE"}),
}
FALLBACKS: Mapping[str, str] = {"PixelIntensityRelationship": "OTHER", "ModalityLUTType": "US", "RescaleType": "US"}
"""What stands for a word that is no term, where the attribute must be there. US is "unspecified"."""

IMAGE_TYPES = ("ImageType", "FrameType")
IMAGE_TYPE_TERMS = (
    frozenset({"ORIGINAL", "DERIVED"}),
    frozenset({"PRIMARY", "SECONDARY"}),
    frozenset({"SINGLE PLANE", "BIPLANE A", "BIPLANE B", "SINGLE A", "SINGLE B"}),
)
IMAGE_TYPE_FALLBACKS = ("ORIGINAL", "PRIMARY", "SINGLE PLANE")
IMAGE_TYPE_WORDS = frozenset({"NONE", "SUB", "DSA", "SUBTRACTION", "SUBTRACTED", "CARD", "FLUORO"})
"""From the fourth value on, where vendors put words of their own."""
