"""The whole pipeline in one run: its workers as child processes, and the view of their events."""

#: MiB of memory of each worker of an all-in-one run (`--memory`) -> the worker ends, and the run with it; the units and
#: the compose file set 1 GiB, and restart the worker
MEMORY = 1024
