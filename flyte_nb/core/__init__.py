"""The vocabulary, the state and the authoring API: knows neither Dask nor Jupyter. Runs in: everywhere."""
