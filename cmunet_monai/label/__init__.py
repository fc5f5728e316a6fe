"""MONAI Label with a bundle of ours: `python -m cmunet_monai label`.

`app`, `datastore` and `server` need MONAI Label (`constraints-monailabel.txt`); the other modules do without.
"""
