"""Running attempts on Dask workers. Runs in: worker processes."""
