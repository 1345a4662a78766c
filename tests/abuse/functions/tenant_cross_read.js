// Tries to name another tenant in every argument there is.
// ends: ok
function handle(body) {
    const { tenant, account, id, secret } = body || {};
    const places = [tenant, `${tenant}/secrets`, `${tenant}.secrets`, `../${tenant}/secrets`, `${tenant}:secrets`, "secrets", account];
    const found = [];
    for (const place of places) {
        for (const answer of [getById(String(place), String(id)), list(String(place)), query(String(place), [["tenant", "=", tenant]]), query("secrets", [["accountId", "=", account]]),
            getById("secrets", String(id)), update("secrets", String(id), { stolen: true }), del("secrets", String(id))]) {
            if (secret && answer.ok && answer.content && JSON.stringify(answer.content).includes(secret)) found.push(answer.content);
        }
    }
    return found;
}
