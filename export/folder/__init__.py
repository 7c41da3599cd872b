"""An export as a folder: a graph, the hand's topology and a manifest, and what later commands add to it.

Read `write.export_checkpoint` first; `contents` tells what of a folder is an export, `inductor_package` adds native
code.
"""
