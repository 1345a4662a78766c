-- `kind` is `javascript`, whose text is in `source`, or `component`, whose bytes are in `component`. `bytes` says how many of
-- either there are. The component comes last: rows are read without it, and SQLite then leaves its pages alone.
alter table versions add column kind text not null default 'javascript';
alter table versions add column bytes integer not null default 0;
alter table versions add column component blob;

-- Files in the data folder are named by hash; one is removed with the last version that has it.
create index versions_by_hash on versions (hash);

update versions set bytes = length(cast(source as blob));
