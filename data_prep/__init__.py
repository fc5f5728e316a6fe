"""From files to frames and a datalist: `python -m data_prep VERB`. Imports `cmunet_monai`, never the reverse."""
