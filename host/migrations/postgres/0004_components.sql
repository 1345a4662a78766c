-- `kind` is `javascript`, whose text is in `source`, or `component`, whose bytes are in `component`. `bytes` says how many of
-- either there are.
alter table versions add column kind text not null default 'javascript';
alter table versions add column bytes bigint not null default 0;
alter table versions add column component bytea;

-- Files in the data folder are named by hash; one is removed with the last version that has it.
create index versions_by_hash on versions (hash);

update versions set bytes = octet_length(source);
