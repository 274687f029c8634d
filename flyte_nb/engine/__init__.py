"""Cluster, links, lanes and bundles: everything that knows Dask. Runs in: engine thread; worker loop."""
