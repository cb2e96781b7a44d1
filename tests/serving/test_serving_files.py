import errno
import pathlib

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from tfkd.serving.serving_files import write_serving_files


@pytest.fixture
def written(tmp_path):
    models = {"student": tmp_path / "models" / "a", "other": tmp_path / "models" / 'b "ä"'}
    labels = {"student": {"stable": 3, "canary": 4}}
    return write_serving_files(
        tmp_path / "serving", models, labels=labels, batch_sizes=(1, 8, 32), rest_port=9501
    )


def test_models_config_is_what_the_proto_says(written):
    text = (written.parent / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    student, other = config.model_config_list.config
    assert (student.name, student.base_path) == ("student", "/models/student")
    assert student.model_platform == "tensorflow"
    assert list(student.model_version_policy.specific.versions) == [3, 4]
    assert dict(student.version_labels) == {"stable": 3, "canary": 4}
    assert other.model_version_policy.latest.num_versions == 2
    with pytest.raises(text_format.ParseError):  # a wrong field would have been found
        text_format.Parse(text.replace("base_path", "path"), type(config)())


def proto(name, fields):
    """A message class built from its published field list; the wheel does not hold these two."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="tfkd.test")
    file.syntax = "proto3"
    wrapper = file.message_type.add(name=f"{name}Value")
    wrapper.field.add(name="value", number=1, type=3, label=1)  # int64
    inner = file.message_type.add(name=f"{name}Prometheus")
    inner.field.add(name="enable", number=1, type=8, label=1)
    inner.field.add(name="path", number=2, type=9, label=1)
    message = file.message_type.add(name=name)
    for number, (field, kind) in enumerate(fields.items(), 1):
        if kind == "repeated":
            message.field.add(name=field, number=number, type=3, label=3)
        else:
            type_name = f".tfkd.test.{name}{kind}"
            message.field.add(name=field, number=number, type=11, label=1, type_name=type_name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tfkd.test.{name}"))


def test_batching_and_monitoring_parse_with_their_published_fields(written):
    batching = proto(
        "Batching",
        {
            "max_batch_size": "Value",
            "batch_timeout_micros": "Value",
            "max_enqueued_batches": "Value",
            "num_batch_threads": "Value",
            "allowed_batch_sizes": "repeated",
        },
    )
    text = (written.parent / "batching.config").read_text()
    found = text_format.Parse(text, batching())
    assert list(found.allowed_batch_sizes) == [1, 8, 32]
    assert found.max_batch_size.value == 32  # TensorFlow Serving demands the last allowed size
    monitoring = proto("Monitoring", {"prometheus_config": "Prometheus"})
    text = (written.parent / "monitoring.config").read_text()
    found = text_format.Parse(text, monitoring())
    assert found.prometheus_config.enable
    assert found.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_the_compose_file_mounts_every_model_and_listens_on_this_machine(written, tmp_path):
    service = yaml.safe_load(written.read_text())["services"]["serving"]
    assert service["ports"] == ["127.0.0.1:9501:8501", "127.0.0.1:8500:8500"]
    assert service["image"] == "tensorflow/serving:2.21.0"
    assert service["volumes"] == [
        f"{tmp_path}/models/a:/models/student:ro",
        f'{tmp_path}/models/b "ä":/models/other:ro',
        f"{written.parent}:/config:ro",
    ]
    for name in ("models.config", "batching.config", "monitoring.config"):
        assert any(flag.endswith(f"=/config/{name}") for flag in service["command"])
        assert (written.parent / name).exists()


@pytest.mark.parametrize(
    "models, options, message",
    [
        ({}, {}, "no model to serve"),
        ({"a": "a"}, {"labels": {"b": {"x": 1}}}, r"Labels are given for \['b'\]"),
        ({"a": "a"}, {"batch_sizes": (8, 1)}, "must ascend"),
        ({"a": "a"}, {"batch_sizes": ()}, "must ascend"),
        ({"a": "a"}, {"batch_sizes": (0, 1)}, "must ascend"),
        ({"a": "a"}, {"rest_port": 0}, "rest_port must be a whole number from 1 to 65535"),
        ({"a": "a"}, {"grpc_port": 65536}, "grpc_port must be"),
        ({"a": "a"}, {"loaded": 0}, "loaded must be"),
        ({"a": "a"}, {"threads": True}, "threads must be"),
        ({"../etc": "a"}, {}, "cannot be called '../etc'"),
        ({"a\nb": "a"}, {}, "cannot be called"),
        ({"a": "a"}, {"labels": {"a": {"x:y": 1}}}, "cannot be 'x:y'"),
        ({"a": "a"}, {"labels": {"a": {"x": -1}}}, "number of a version"),
        ({"a": "b:c"}, {}, 'no path with ":"'),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, models, options, message):
    with pytest.raises(ValueError, match=message):
        write_serving_files(tmp_path, models, **options)
    assert not tmp_path.exists() or not list(tmp_path.iterdir())


def test_what_compose_would_take_for_a_variable_or_a_line_stays_text(tmp_path):
    base = tmp_path / "price $HOME ${x}" / 'li\nne "q"'
    path = write_serving_files(tmp_path / "a\nb", {"a": base}, image="registry:5000/tf$1\nx: y")
    text = path.read_text()
    service = yaml.safe_load(text)["services"]["serving"]
    assert [volume.replace("$$", "$") for volume in service["volumes"]] == [
        f"{base}:/models/a:ro",
        f"{path.parent}:/config:ro",
    ]
    assert "$" not in text.replace("$$", "")
    assert service["image"] == "registry:5000/tf$$1\nx: y"


def test_a_full_disk_is_a_plain_error_and_leaves_no_half_file(tmp_path, monkeypatch):
    write_serving_files(tmp_path, {"a": "a"}, threads=3)
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}

    def full(self, text, encoding):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    with pytest.raises(
        OSError, match=r'full: "models.config" was not written.*Free some space'
    ) as caught:
        write_serving_files(tmp_path, {"a": "a"}, threads=4)
    assert caught.value.errno == errno.ENOSPC
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == before
