"""What makes Faust consume whole poll batches from our own offsets; the only place that knows Faust's internals."""
