from pathlib import Path

from vaeserve_server.config import ServerConfig
from vaeserve_server.worker_messages import Served, WorkerStart


def test_a_worker_is_started_with_the_supervisors_settings() -> None:
    config = ServerConfig(
        repository=Path("models"),
        device="cuda:1",
        tf32=True,
        gpu_memory_limit_mb=512,
        tensorrt=True,
        engine_cache=Path("engines"),
        tls_cert=Path("cert.pem"),
        tls_key=Path("key.pem"),
        workers=3,
    )
    start = WorkerStart(2, config, Served({"digits": 4}, {"faces": "broken"}))
    assert WorkerStart.decode(start.encode()) == start
    assert WorkerStart.decode(start.encode()).config.tuning == config.tuning
