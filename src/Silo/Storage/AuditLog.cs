using System.Globalization;
using GpuTasks.Security;
using GpuTasks.Store;

namespace GpuTasks.Storage;

/// <summary>The log of changes: rows that are only added, read by their number from the latest on, and deleted by age.</summary>
internal sealed class AuditLog(StoreDatabase database) : IAuditLog
{
    private const string Columns = "at, account, request_id, actor, action, resource, source, status";

    public async Task AppendAsync(AuditEntry entry, CancellationToken cancellationToken) => await database.QueryAsync(
        $"insert into audit ({Columns}) values (@at, @account, @request, @actor, @action, @resource, @source, @status) returning 1",
        [
            ("at", entry.At.ToUnixTimeMilliseconds()), ("account", entry.Account), ("request", entry.RequestId), ("actor", entry.Actor),
            ("action", entry.Action), ("resource", entry.Resource), ("source", entry.Source), ("status", entry.Status),
        ],
        _ => 0,
        cancellationToken);

    public async Task<AuditPage> ListAsync(string? account, string? token, int limit, CancellationToken cancellationToken)
    {
        List<(string, object)> parameters = [("limit", limit + 1)];
        var where = "where id < @before";
        parameters.Add(("before", token is null ? long.MaxValue : long.Parse(token, NumberStyles.None, CultureInfo.InvariantCulture)));
        if (account is not null)
        {
            where += " and account = @account";
            parameters.Add(("account", account));
        }

        var rows = await database.QueryAsync(
            $"select id, {Columns} from audit {where} order by id desc limit @limit",
            parameters,
            row => (Id: row.GetInt64(0), Entry: new AuditEntry
            {
                At = DateTimeOffset.FromUnixTimeMilliseconds(row.GetInt64(1)),
                Account = row.GetString(2),
                RequestId = row.GetString(3),
                Actor = row.GetString(4),
                Action = row.GetString(5),
                Resource = row.GetString(6),
                Source = row.GetString(7),
                Status = row.GetInt32(8),
            }),
            cancellationToken);
        return new AuditPage(
            [.. rows.Take(limit).Select(row => row.Entry)],
            rows.Count > limit ? rows[limit - 1].Id.ToString(CultureInfo.InvariantCulture) : null);
    }

    public async Task<int> PurgeAsync(DateTimeOffset before, int limit, CancellationToken cancellationToken) => (await database.QueryAsync(
        "delete from audit where id in (select id from audit where at < @before order by at limit @limit) returning 1",
        [("before", before.ToUnixTimeMilliseconds()), ("limit", limit)],
        _ => 0,
        cancellationToken)).Count;
}
