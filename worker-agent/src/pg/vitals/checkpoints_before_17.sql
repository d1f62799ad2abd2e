select kinds.reason, null as phase, kinds.done::float8 as postgres_checkpoints_total, null::float8 as postgres_checkpoint_seconds_total
  from pg_stat_bgwriter
 cross join lateral (values ('timed', checkpoints_timed), ('requested', checkpoints_req)) as kinds (reason, done)
union all
select null, phases.phase, null, phases.took_ms / 1000
  from pg_stat_bgwriter
 cross join lateral (values ('write', checkpoint_write_time), ('sync', checkpoint_sync_time)) as phases (phase, took_ms)
