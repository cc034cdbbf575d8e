from tests.kill_and_resume import differences


def test_a_killed_run_resumes_to_the_same_model(rendered_scene, tmp_path):
    options = ["descriptor.name=rootsift", "detector.max_keypoints=600"]
    assert differences(rendered_scene / "images", tmp_path, kills=2, options=options) == []
