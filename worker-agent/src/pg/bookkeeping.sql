create schema if not exists atoll;
create table if not exists atoll.applied (
    only_row boolean primary key default true check (only_row),
    cluster_id text not null,
    begun bigint not null,
    applied bigint,
    changed_at timestamptz not null default now()
);
create table if not exists atoll.moves (
    move_id bigint primary key,
    ordered_at bigint not null,
    retired text,
    marker bigint,
    changed_at timestamptz not null default now()
);
create table if not exists atoll.worker (
    only_row boolean primary key default true check (only_row),
    uid text not null
);
comment on table atoll.worker is 'identity of the worker whose database this is, if it is an external one; kept by atoll-agent';
comment on table atoll.moves is 'newest order of each move, and the schema it retired; kept by atoll-agent';
comment on table atoll.applied is 'catalog version that this server was shaped by; kept by atoll-agent';
