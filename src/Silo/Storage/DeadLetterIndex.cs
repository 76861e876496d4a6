using System.Globalization;
using GpuTasks.Store;
using GpuTasks.Tasks;

namespace GpuTasks.Storage;

/// <summary>Reads task rows whose message was given up.</summary>
internal sealed class DeadLetterIndex(StoreDatabase database, SystemTextJsonStorageSerializer serializer) : IDeadLetterIndex
{
    public async Task<(IReadOnlyList<TaskState> Tasks, string? NextToken)> ListAsync(
        string account, string? function, DateTimeOffset? before, string? token, int limit, CancellationToken cancellationToken)
    {
        List<(string, object)> parameters = [("account", account), ("limit", limit + 1)];
        if (function is not null)
        {
            parameters.Add(("function", function));
        }

        if (before is not null)
        {
            parameters.Add(("before", before.Value.ToUnixTimeMilliseconds()));
        }

        if (token is not null)
        {
            var (at, key) = Read(token);
            parameters.AddRange([("at", at), ("key", $"{account}/{key}")]);
        }

        var rows = await database.QueryAsync(
            Text(function is not null, before is not null, token is not null),
            parameters,
            row => (At: row.GetInt64(1), Key: row.GetString(2), State: row.GetFieldValue<byte[]>(0)),
            cancellationToken);
        return (
            rows.Take(limit).Select(row => serializer.Deserialize<TaskState>(new BinaryData(row.State))).ToList(),
            rows.Count > limit ? Write(rows[limit - 1].At, rows[limit - 1].Key[(account.Length + 1)..]) : null);
    }

    internal static string Text(bool ofFunction, bool isBefore, bool goesOn) =>
        "select payload, dead_at, key from grain_state where kind = 'task' and dead_at is not null and account = @account "
        + (ofFunction ? "and function = @function " : "")
        + (isBefore ? "and dead_at < @before " : "")
        + (goesOn ? "and (dead_at, key) > (@at, @key) " : "")
        + "order by dead_at, key limit @limit";

    // The account is not in it, so a token of another's list leads nowhere else.
    private static string Write(long at, string key) => $"{at.ToString(CultureInfo.InvariantCulture)}/{key}";

    private static (long At, string Key) Read(string token) =>
        token.Split('/', 2) is [var at, var key] && long.TryParse(at, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && KeyRange.IsPossible(key)
            ? (number, key)
            : throw new FormatException("The page token was not made by an earlier page of this list.");
}
