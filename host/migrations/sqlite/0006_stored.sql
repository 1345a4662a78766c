-- What each tenant keeps: documents, and the bytes of their texts. Changed in the transaction that changes the documents.
create table stored (
    tenant text primary key references tenants (id),
    documents integer not null,
    bytes integer not null
) strict, without rowid;

insert into stored (tenant, documents, bytes)
select tenant, count(*), sum(length(cast(body as blob))) from documents group by tenant;
