"""The evaluators of generated images: the figures by hand, the classifier and its cache."""

import math

import numpy as np
import pytest
import scipy.linalg

from lightkeras.metrics import (
    LabelledImages,
    PixelFrechetDistance,
    classifier_score,
    evaluate_gan,
    frechet_distance,
    gan_evaluation,
    image_classifier,
)
from lightkeras.metrics.frechet import gaussian_frechet_distance
from lightkeras.metrics.image_classifier import classify, load_or_train

# ---- Fréchet distance


def test_equal_gaussians_have_no_distance():
    numbers = np.random.default_rng(0)
    mean, root = numbers.normal(size=4), numbers.normal(size=(4, 4))
    assert gaussian_frechet_distance(mean, root @ root.T, mean, root @ root.T) == pytest.approx(0, abs=1e-9)


def test_the_distance_of_independent_features_by_hand():
    """Of diagonal covariances it is |m1 - m2|^2 + |s1 - s2|^2 with standard deviations s."""
    distance = gaussian_frechet_distance([0, 1], np.diag([4.0, 9.0]), [3, -1], np.diag([1.0, 25.0]))
    assert distance == pytest.approx(9 + 4 + (2 - 1) ** 2 + (3 - 5) ** 2)


def test_the_distance_of_dependent_features_is_that_of_a_matrix_root():
    numbers = np.random.default_rng(1)
    a, b = (root @ root.T for root in numbers.normal(size=(2, 5, 5)))
    means = numbers.normal(size=(2, 5))
    root = scipy.linalg.sqrtm(a @ b).real
    expected = np.square(means[0] - means[1]).sum() + np.trace(a + b - 2 * root)
    assert gaussian_frechet_distance(means[0], a, means[1], b) == pytest.approx(expected, rel=1e-8)


def test_fewer_images_than_features_do_no_harm():
    """Rank 1 in both: points on lines at a right angle, the distance by hand."""
    first, second = np.zeros((3, 6)), np.zeros((3, 6))
    first[:, 0], second[:, 1] = [-1, 0, 1], [1, 3, 5]  # variances 1 and 4, means 0 and 3
    assert frechet_distance(first, second) == pytest.approx(9 + 1 + 4)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_the_distance_of_samples_comes_near_that_of_their_gaussians():
    numbers = np.random.default_rng(2)
    first = numbers.normal(0, 1, (50_000, 3))
    second = numbers.normal(0.5, 2, (50_000, 3))
    assert frechet_distance(first, second) == pytest.approx(3 * (0.25 + 1), rel=0.03)
    one = frechet_distance(first[:, :1], second[:, :1])
    assert one == pytest.approx(1.25, rel=0.05)


# ---- classes


def test_the_score_of_certain_and_even_predictions():
    assert classifier_score(np.eye(10)) == pytest.approx(10)
    assert classifier_score(np.full((7, 10), 0.1)) == pytest.approx(1)
    assert classifier_score(np.eye(10)[[3] * 8]) == pytest.approx(1)
    assert classifier_score(np.eye(4)[[0, 1, 0, 1]]) == pytest.approx(2)


def test_the_score_by_hand():
    p = np.array([[0.75, 0.25], [0.25, 0.75]])
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert classifier_score(p) == pytest.approx(math.exp(kl))


def test_coverage_and_entropy_by_hand():
    p = np.eye(4)[[0] * 60 + [1] * 30 + [2] * 8 + [3] * 2]
    histogram = gan_evaluation.class_histogram(p)
    assert histogram.tolist() == [60, 30, 8, 2]
    assert gan_evaluation.classes_covered(histogram) == 3  # a tenth of an even share is 2.5 images
    shares = (0.6, 0.3, 0.08, 0.02)
    assert gan_evaluation.class_entropy(histogram) == pytest.approx(-sum(s * math.log(s) for s in shares))
    assert gan_evaluation.class_entropy(np.full(10, 7)) == pytest.approx(math.log(10))
    assert (
        gan_evaluation.class_entropy(np.array([5, 0, 0])) == 0
        and gan_evaluation.classes_covered(np.array([5, 0, 0])) == 1
    )


# ---- the classifier and all of it


def patterns(n, seed):
    """Images of 8 x 8 pixels of three classes: stripes of one width or another, noise over them."""
    numbers = np.random.default_rng(seed)
    labels = numbers.integers(0, 3, n)
    stripes = np.stack([(np.arange(8) // width % 2) * 200 for width in (1, 2, 4)])[labels]  # (n, 8)
    images = stripes[:, None, :] + numbers.integers(0, 55, (n, 8, 8))
    return LabelledImages(images.astype(np.uint8)[..., None], labels)


@pytest.fixture(scope="module", autouse=True)
def short_training():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_classifier, "MIN_UPDATES", 1)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def figures(cache):
    """Of good images, noise and copies of one image."""
    train, test = patterns(2000, 0), patterns(200, 1)
    sets = {"good": patterns(300, 2).images, "copies": train.images[[0] * 200], "training": train.images[:200]}
    return {name: evaluate_gan(images, train, test, cache=cache) for name, images in sets.items()}


def test_good_images_are_near_the_floor(figures):
    good = figures["good"]
    assert good["images"] == 200 and good["classifier_accuracy"] > 0.99
    assert good["generated"]["frechet_distance"] < 0.05 * good["noise"]["frechet_distance"]
    assert good["generated"]["classes_covered"] == 3
    assert good["generated"]["class_entropy"] == pytest.approx(math.log(3), abs=0.05)
    assert good["generated"]["classifier_score"] > 2.5
    assert good["generated"]["nearest_distance"] == pytest.approx(good["real"]["nearest_distance"], rel=0.1)


def test_collapse_and_memorisation_are_seen(figures):
    copies, training = figures["copies"]["generated"], figures["training"]["generated"]
    assert copies["classes_covered"] == 1 and copies["class_entropy"] == 0
    assert copies["classifier_score"] == pytest.approx(1, abs=1e-3)
    assert copies["frechet_distance"] > 10 * figures["good"]["generated"]["frechet_distance"]
    assert training["nearest_distance"] == 0


def test_every_set_has_the_same_number_of_images(cache, figures):
    few = evaluate_gan(patterns(50, 2).images, patterns(2000, 0), patterns(200, 1), cache=cache)
    many = figures["good"]  # 300 images, but 200 test images
    assert few["images"] == 50 and many["images"] == 200
    assert few["real"]["frechet_distance"] > many["real"]["frechet_distance"]


def test_the_classifier_is_trained_once(cache, monkeypatch, figures):
    def refuse(model, train):
        raise AssertionError("trained again")

    first = classify(load_or_train(patterns(2000, 0), cache), patterns(9, 5).images)
    monkeypatch.setattr(image_classifier, "_train", refuse)
    again = classify(load_or_train(patterns(2000, 0), cache), patterns(9, 5).images)
    np.testing.assert_array_equal(first[1], again[1])
    with pytest.raises(AssertionError, match="trained again"):
        load_or_train(patterns(2000, 1), cache)
    monkeypatch.setattr(image_classifier, "VERSION", 99)
    with pytest.raises(AssertionError, match="trained again"):
        load_or_train(patterns(2000, 0), cache)


def test_two_trainings_give_one_classifier(tmp_path):
    train, seen = patterns(130, 0), patterns(9, 5).images
    models = [load_or_train(train, tmp_path / name) for name in ("a", "b")]
    np.testing.assert_allclose(*[classify(model, seen)[1] for model in models], atol=1e-4)


def test_a_damaged_cache_is_named(tmp_path, cache, figures):
    (path,) = cache.iterdir()
    (tmp_path / path.name).write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="Delete it to train it again"):
        load_or_train(patterns(2000, 0), tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((5, 8, 8, 1), np.float32), np.zeros(5), r"`images` to be uint8 .* Received: images='float32"),
        (np.zeros((5, 9, 9, 1), np.uint8), np.zeros(5), r"`images` to be uint8 .* of the shape \(8, 8, 1\)"),
        (np.zeros((5, 8, 8, 1), np.uint8), None, r"`train.labels` to be a label for each of 20 images"),
        (np.zeros((1, 8, 8, 1), np.uint8), np.zeros(5), r"at least 2"),
    ],
)
def test_bad_images_are_rejected(cache, images, labels, message):
    train = patterns(20, 0)
    if labels is None:
        train = LabelledImages(train.images, None)
    with pytest.raises(ValueError, match=message):
        evaluate_gan(images, train, patterns(20, 1), cache=cache)


# ---- the distance of coarse pixels


def test_pixels_of_one_value_by_hand():
    """Gray images of one value each: all pixels vary together, so the covariances are 64 times the values' variance."""
    values = np.array([[0.25, 0.5, 0.75], [0.0, 0.5, 1.0]])  # variances 1/16 and 1/4
    real, generated = (np.ones((3, 16, 16, 1), np.float32) * row[:, None, None, None] for row in values)
    assert PixelFrechetDistance.from_images(real, generated).result() == pytest.approx(64 * (1 / 2 - 1 / 4) ** 2)
    assert PixelFrechetDistance.from_images(real, real + 0.25).result() == pytest.approx(64 / 16)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (12, 3)])
def test_the_pixels_distance_is_that_of_all_images_however_they_are_cut(side, channels):
    numbers = np.random.default_rng(0)
    real, generated = numbers.uniform(size=(2, 20, side, side, channels)).astype(np.float32)
    whole = PixelFrechetDistance.from_images(real, generated)
    kept = np.arange(8) < 6
    none = PixelFrechetDistance.from_images(real[:2], generated[:2], np.zeros(2, bool))
    parts = [PixelFrechetDistance.from_images(real[:14], generated[:14])]
    parts.append(
        PixelFrechetDistance.from_images(real[[*range(14, 20), 0, 1]], generated[[*range(14, 20), 0, 1]], kept)
    )
    np.testing.assert_array_equal((parts[0] + parts[1] + none).sums, whole.sums)
    if side == 8:
        flat = [images.reshape(20, -1) for images in (real, generated)]
        assert whole.result() == pytest.approx(frechet_distance(*flat), rel=1e-3)


def test_pixels_of_other_shapes_are_rejected():
    images = np.zeros((2, 8, 8, 1), np.float32)
    with pytest.raises(ValueError, match=r"`generated` to be the real images' shape"):
        PixelFrechetDistance.from_images(images, images[:1])
    with pytest.raises(ValueError, match=r"`real` to be \(n, height, width, 1 or 3\)"):
        PixelFrechetDistance.from_images(images[..., 0], images[..., 0])
