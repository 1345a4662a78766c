-- Limits that an owner set for a version, and quotas that the operator set for a tenant: JSON objects with what differs.
alter table versions add column limits text not null default '{}';
alter table tenants add column quota text not null default '{}';

-- `used` is a JSON object: what the run did with the platform. `chain` are names of functions, the run's own last.
alter table runs add column guest_us integer not null default 0;
alter table runs add column host_us integer not null default 0;
alter table runs add column queued_us integer not null default 0;
alter table runs add column used text not null default '{}';
alter table runs add column depth integer not null default 0;
alter table runs add column chain text not null default '';

-- Runs of a minute and fuel of a day, counted from the Unix epoch, of each function; of the tenant in all where `function` is
-- empty. Of a function that was deleted only the tenant knows.
create table usage (
    tenant text not null references tenants (id),
    function text not null,
    minute integer not null,
    runs integer not null,
    day integer not null,
    fuel integer not null,
    primary key (tenant, function)
) strict, without rowid;
