"""What setup.cfg cannot say: every folder of code is a package, and the folder of the bundles is one more."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["cmunet_monai*", "data_prep*"]), "cmunet_monai.bundles"])
