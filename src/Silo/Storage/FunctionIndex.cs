using GpuTasks.Functions;
using GpuTasks.Store;

namespace GpuTasks.Storage;

/// <summary>Reads function rows by their index columns.</summary>
internal sealed class FunctionIndex(StoreDatabase database, SystemTextJsonStorageSerializer serializer) : IFunctionIndex
{
    public async Task<IReadOnlyList<FunctionState>> ListAsync(string account, string prefix, string? after, int limit, CancellationToken cancellationToken)
    {
        if (!KeyRange.IsPossible(prefix) || (after is not null && !KeyRange.IsPossible(after)))
        {
            return [];
        }

        List<(string, object)> parameters = [("account", account), ("limit", limit)];
        var where = "";
        if (prefix.Length > 0)
        {
            where += " and function >= @low";
            parameters.Add(("low", prefix));
            if (KeyRange.End(prefix) is { } end)
            {
                where += " and function < @high";
                parameters.Add(("high", end));
            }
        }

        if (after is not null)
        {
            where += " and function > @after";
            parameters.Add(("after", after));
        }

        return await database.QueryAsync(
            $"select payload from grain_state where kind = 'function' and account = @account{where} order by function limit @limit",
            parameters,
            r => serializer.Deserialize<FunctionState>(new BinaryData(r.GetFieldValue<byte[]>(0))),
            cancellationToken);
    }
}
