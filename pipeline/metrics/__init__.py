"""Scores as pure functions of arrays: nothing here reads a file, runs a method or knows a scene.

poses.py        relative-pose errors, mAA (IMC), AUC (SuperGlue), epipolar precision
alignment.py    similarity between two sets of camera centres, ATE
homographies.py MMA, matching score, repeatability, homography corner errors
imc.py          Image Matching Challenge 2020/2021: IMC's ATE, bags, aggregation
kaggle.py       Image Matching Challenge 2022 to 2025: the four metrics
eth.py          the table of the local-feature-evaluation benchmark
statistics.py   mean and spread over seeds, paired bootstrap
"""
