-- A run that has been going on for a while, as JSON, as it would stand in the history if its process ended now.
alter table deliveries add column running text;

-- Deliveries that a tenant keeps, those that are dead included.
alter table stored add column events integer not null default 0;

insert into stored (tenant, documents, bytes, events)
select tenant, 0, 0, count(*) from deliveries where true group by tenant
on conflict (tenant) do update set events = excluded.events;
