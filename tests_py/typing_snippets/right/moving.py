from pathlib import Path

from typing_extensions import assert_type

from nano_graphrag_redis import RedisConfig, doctor, migration

config = RedisConfig.from_env()


def tell(progress: migration.Progress) -> None:
    assert_type(progress.namespace, str)
    assert_type(progress.total, int | None)


plan = migration.plan(Path("cache"), config, namespaces=["full_docs"], ttl=0, progress=tell)
assert_type(plan.notices(), list[str])
migrated = migration.migrate(plan, dry_run=True, progress=tell)
assert_type(migrated.ok, bool)
for namespace in migrated.namespaces:
    assert_type(namespace.refused_count, int)
exported = migration.export(Path("out"), {"redis_url": "redis://localhost"}, dry_run=True)
assert_type(exported.files[0].path, Path)
verified = migration.verify(Path("cache"), config, namespaces=None)
assert_type(verified.namespaces[0].missing, tuple[str, ...])
for finding in doctor.examine(config):
    assert_type(finding.severity, doctor.Severity)
    assert_type(finding.remedy, str)
