select not pg_is_in_recovery() and not current_setting('default_transaction_read_only')::bool as takes_writes,
       to_regclass('atoll.worker') is not null as has_claim
