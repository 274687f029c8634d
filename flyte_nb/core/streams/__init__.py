"""Tasks that yield: items on their way from a producer's attempt to whoever iterates over its call.

Each end has one class: `Outlet` where the body runs, `Inlet` where its call was made. In between are the messages "items" and
"took"; a producer may be ahead of its consumer by a bounded number of items and bytes.
"""
