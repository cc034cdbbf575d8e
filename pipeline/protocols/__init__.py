"""What a benchmark measures: its recipe, one file a kind of score, and the tables.

recipe.py        a benchmark's YAML: scenes x methods x seeds
turned.py        a copy of a scene whose photographs are turned
stereo.py        relative pose of pairs, from matches
planes.py        matches between pictures of one plane
colmap_sift.py   pycolmap's own pipeline as a method
cells.py         one scene x method: its seeds in one process
tables.py        results of all cells -> summary, paired differences, markdown
"""
