"""A bundle and its weights as one zip for a partner: `package` makes it, `verify` judges it before any of it is run."""
