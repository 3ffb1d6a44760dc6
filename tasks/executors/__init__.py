"""Where steps run: threads, processes, clusters, and work pools."""
