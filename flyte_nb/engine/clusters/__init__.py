"""The Dask cluster: started here or attached to, and how its workers end."""
