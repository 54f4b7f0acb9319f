"""How jobs are run: on this machine or a cluster, in processes of their own, watched and estimated."""
