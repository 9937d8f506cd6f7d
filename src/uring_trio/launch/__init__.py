"""How a run gets on the ring: run and install, the environment variable, the drop-in file functions."""
