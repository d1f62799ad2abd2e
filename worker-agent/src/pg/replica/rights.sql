-- What a standby needs of its primary: the generations to compare its own with, and for pg_rewind the files.
create table if not exists atoll.generation (
    generation bigint primary key,
    timeline integer not null,
    recorded_at timestamptz not null default now()
);
comment on table atoll.generation is 'generations that this log went through, and where in PostgreSQL''s count; kept by atoll-agent';
grant connect on database DATABASE to ROLE;
grant usage on schema atoll to ROLE;
grant select on atoll.generation to ROLE;
grant execute on function pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), pg_read_binary_file(text),
    pg_read_binary_file(text, bigint, bigint, boolean) to ROLE;
