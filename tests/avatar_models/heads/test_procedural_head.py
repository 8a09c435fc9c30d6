"""The procedural head: proportions, joints, lids, and what a fit relies on."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar_models.heads.interface import Head
from avatar_models.heads.procedural import procedural_head
from avatar_models.heads.procedural_mesh import EYE_LEFT, EYE_RIGHT, head_mesh
from avatar_models.heads.skinning import pose
from avatar_models.mesh_render import rasterise

LEFT_IRIS, RIGHT_IRIS, NOSE_TIP, CHIN, FOREHEAD = 473, 468, 1, 152, 10
UPPER_INNER_LIP, LOWER_INNER_LIP = 13, 14


def posed(head: Head, dtype: torch.dtype = torch.float64, **named: float | list[float] | np.ndarray) -> torch.Tensor:
    """Vertices (V, 3) with everything at rest but expressions by name, and identity, neck, jaw or eyes."""
    joints = {"neck": 3, "jaw": 3, "eyes": 6, "identity": head.num_identity}
    arguments = {name: torch.zeros(1, size, dtype=torch.float64) for name, size in joints.items()}
    expression = torch.zeros(1, head.num_expression, dtype=torch.float64)
    for name, value in named.items():
        if name in arguments:
            arguments[name][0] = torch.as_tensor(value, dtype=torch.float64)
        else:
            expression[0, head.expression_names.index(name)] = value
    return head.vertices(arguments["identity"], expression, arguments["neck"], arguments["jaw"], arguments["eyes"])[0]


def test_proportions_are_human() -> None:
    head = procedural_head()
    marks = head.landmarks(posed(head)[None])[0].numpy() * 1000
    assert np.linalg.norm(marks[LEFT_IRIS] - marks[RIGHT_IRIS]) == pytest.approx(63, abs=1.5)
    pupils = (marks[LEFT_IRIS] + marks[RIGHT_IRIS]) / 2
    assert 95 < pupils[1] - marks[CHIN][1] < 125
    assert 10 < marks[NOSE_TIP][2] - marks[UPPER_INNER_LIP][2] < 30
    assert marks[LEFT_IRIS][0] > 0 > marks[RIGHT_IRIS][0]  # x is the subject's left
    assert marks[FOREHEAD][1] > pupils[1] > marks[NOSE_TIP][1] > marks[CHIN][1]


def test_a_persons_own_head_moves_as_the_head_with_that_identity() -> None:
    head, rng = procedural_head(), np.random.default_rng(3)
    identity = torch.from_numpy(rng.normal(size=head.num_identity).astype(np.float32))
    expression = torch.from_numpy(rng.uniform(size=(4, head.num_expression)).astype(np.float32))
    turns = [torch.from_numpy(0.4 * rng.normal(size=(4, size)).astype(np.float32)) for size in (3, 3, 6)]
    own = head.of_person(identity)
    assert own.num_identity == 0 and own.expression_names == head.expression_names and own.hash() != head.hash()
    assert torch.allclose(
        own.vertices(identity[None, :0], expression, *turns), head.vertices(identity[None], expression, *turns), atol=1e-6
    )
    with pytest.raises(ValueError, match=rf"identity must be \({head.num_identity},\) for the head procedural, is \(2,\)"):
        head.of_person(identity[:2])


def test_skinning_is_the_formula() -> None:
    """Against the definition: each joint's chain of 4 x 4 matrices, in numpy."""
    head, rng = procedural_head(), np.random.default_rng(0)
    rig = head.rig.to(dtype=torch.float64)
    identity, expression = rng.normal(size=head.num_identity), rng.uniform(size=head.num_expression)
    turns = rng.normal(size=(4, 3)) * 0.4  # neck, jaw, left eye, right eye
    shape = (
        rig.template.numpy() + np.tensordot(identity, rig.identity_basis, 1) + np.tensordot(expression, rig.expression_basis, 1)
    )
    joints = rig.joints.numpy() + np.tensordot(identity, rig.joint_identity_basis, 1)

    def about(joint: int, turn: np.ndarray) -> np.ndarray:
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
        matrix[:3, 3] = joints[joint] - matrix[:3, :3] @ joints[joint]
        return matrix

    neck = about(1, turns[0])
    chain = np.stack([np.eye(4), neck, *(neck @ about(joint, turns[joint - 1]) for joint in (2, 3, 4))])
    blended = np.tensordot(rig.weights, chain, 1)
    expected = np.einsum("vkl,vl->vk", blended[:, :3], np.concatenate([shape, np.ones((len(shape), 1))], 1))

    arguments = (identity, expression, turns[0], turns[1], np.concatenate([turns[2], turns[3]]))
    found = head.vertices(*(torch.from_numpy(a)[None] for a in arguments))[0]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    single = head.vertices(*(torch.from_numpy(a)[None].float() for a in arguments))[0]
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, expected, atol=2e-6)


def test_a_part_of_the_rig_poses_the_same_and_has_right_gradients() -> None:
    head, generator = procedural_head(), torch.Generator().manual_seed(0)
    chosen = torch.tensor([5, 900, 4000])
    arguments = [
        (0.3 * torch.randn(2, size, generator=generator, dtype=torch.float64)).requires_grad_()
        for size in (head.num_identity, head.num_expression, 3, 3, 6)
    ]
    part = head.rig.take(chosen).to(dtype=torch.float64)
    torch.testing.assert_close(pose(part, *arguments), head.vertices(*arguments)[:, chosen])
    assert torch.autograd.gradcheck(lambda *a: pose(part, *a), arguments, atol=1e-6)


def test_the_jaw_opens_the_mouth_and_leaves_the_upper_lip() -> None:
    head = procedural_head()
    rest, opened = (head.landmarks(posed(head, jaw=[angle, 0, 0])[None])[0].numpy() * 1000 for angle in (0.0, 0.3))
    assert np.abs(rest[UPPER_INNER_LIP] - rest[LOWER_INNER_LIP]).max() < 3.5
    assert opened[UPPER_INNER_LIP][1] - opened[LOWER_INNER_LIP][1] > 15.0
    assert np.linalg.norm(opened[UPPER_INNER_LIP] - rest[UPPER_INNER_LIP]) < 2.0


@pytest.mark.parametrize("sigma", [0.0, 0.8])
def test_blinks_close_the_eye_step_by_step(sigma: float) -> None:
    """What is seen of the eyeballs shrinks with the coefficient, for anybody: no ball cuts through its lid."""
    head, mesh = procedural_head(), head_mesh()
    faces = head.faces.numpy()
    K = np.array([[2400.0, 0, 400], [0, 2400, 200], [0, 0, 1]])
    view = np.diag([1.0, -1.0, -1.0, 1.0])
    view[:3, 3] = [0, 0.022, 0.8]
    for seed in range(3):
        identity = np.random.default_rng(seed).normal(0, sigma, head.num_identity).clip(-1.6, 1.6)
        seen = []
        for blink in (0.0, 0.5, 1.0):
            vertices = posed(head, identity=identity, eyeBlinkLeft=blink, eyeBlinkRight=blink).numpy()
            triangle = rasterise(vertices, faces, K, view, 800, 400).triangle
            part = np.where(triangle >= 0, mesh.part[faces[np.maximum(triangle, 0), 0]], -1)
            seen.append(int(np.isin(part, (EYE_LEFT, EYE_RIGHT)).sum()))
        assert 0.3 * seen[0] < seen[1] < 0.65 * seen[0]
        assert seen[2] < 0.05 * seen[0]


def test_eyeballs_keep_their_shape_for_anybody() -> None:
    head, mesh = procedural_head(), head_mesh()
    vertices = posed(head, identity=np.full(head.num_identity, 1.5)).numpy()
    for part in (EYE_LEFT, EYE_RIGHT):
        before = head.rig.template.double().numpy()[mesh.part == part]
        moved = vertices[mesh.part == part] - before
        assert np.ptp(moved, axis=0).max() < 1e-6


def test_left_and_right_modes_mirror_each_other() -> None:
    head = procedural_head()
    template = head.rig.template.double().numpy()
    for name in ("mouthSmile", "browOuterUp", "eyeBlink"):
        left, right = (posed(head, **{name + side: 1.0}).numpy() - template for side in ("Left", "Right"))
        assert np.linalg.norm(left) == pytest.approx(np.linalg.norm(right), rel=0.01)
        np.testing.assert_allclose((left * [-1, 1, 1]).sum(0), right.sum(0), atol=0.01 * np.abs(left).sum())


def test_modes_can_be_told_apart_at_the_landmarks() -> None:
    """No mode that moves landmarks is nearly a mix of the others of its kind."""
    head = procedural_head()
    for basis in (head.rig.identity_basis, head.rig.expression_basis):
        seen = head.landmarks(basis).reshape(len(basis), -1).double()
        seen = seen[seen.norm(dim=1) > 2e-3]
        directions = seen / seen.norm(dim=1, keepdim=True)
        assert torch.linalg.cond(directions) < 60


def test_no_identity_grows_shifts_or_turns_the_face() -> None:
    """One camera cannot tell such a mode from a nearer head or a turned one: the pose alone has to do it."""
    head = procedural_head()
    face = (
        head.masks["skin"]
        & (head.rig.template[:, 2] > 0)
        & (head.rig.template[:, 1] > -0.095)
        & (head.rig.template[:, 1] < 0.07)
    )
    x = head.rig.template[face].double()
    for mode in head.rig.identity_basis[:, face].double():
        size = mode.norm()
        assert mode.mean(0).norm() * len(x) ** 0.5 < 0.1 * size
        assert torch.linalg.cross(x - x.mean(0), mode).sum(0).norm() < 0.1 * size * (x - x.mean(0)).norm()
        assert ((x - x.mean(0)) * mode).sum().abs() < 0.1 * size * (x - x.mean(0)).norm()


def test_the_hash_names_the_arrays_on_any_number_of_threads() -> None:
    program = "from avatar_models.heads.procedural import procedural_head; print(procedural_head().hash())"
    for threads in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
        assert done.stdout.strip() == procedural_head().hash() and len(done.stdout.strip()) == 64
