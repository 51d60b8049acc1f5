"""Consumption of whole poll batches by Faust from our own offsets; the only package that knows Faust's internals."""
