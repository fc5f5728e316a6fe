"""MONAI Label with a bundle of ours: `cmunet label`.

`app`, `datastore` and `server` need MONAI Label (`constraints-monailabel.txt`); the other modules do without.
"""
