-- What each tenant keeps: documents, and the bytes of their texts. Changed in the transaction that changes the documents. Each
-- tenant has a few counters, whose sum it is, so that changes at the same time do not wait for each other.
create table stored (
    tenant text collate "C" not null references tenants (id),
    counter integer not null,
    documents bigint not null,
    bytes bigint not null,
    primary key (tenant, counter)
);

insert into stored (tenant, counter, documents, bytes)
select tenant, 0, count(*), sum(bytes) from documents group by tenant;
