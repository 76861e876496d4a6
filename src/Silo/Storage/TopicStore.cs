using GpuTasks.Destinations;
using GpuTasks.Store;

namespace GpuTasks.Storage;

/// <summary>
/// Topics as rows. A message gets its number by a change of its topic's row, in one transaction with its own: whoever adds
/// next waits for that, so numbers are committed in their order and a reader never passes one that comes later.
/// </summary>
internal sealed class TopicStore(StoreDatabase database) : ITopicStore
{
    private const int MaxPageBytes = 4 * 1_024 * 1_024;

    public async Task<bool> AppendAsync(string account, string topic, string id, DateTimeOffset at, byte[] body, CancellationToken cancellationToken)
    {
        await using var connection = await database.DataSource.OpenConnectionAsync(cancellationToken);
        await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
        var number = (long)(await ScalarAsync(
            "insert into topic (account, name, last_seq) values (@account, @topic, 1) "
            + "on conflict (account, name) do update set last_seq = topic.last_seq + 1 returning last_seq",
            ("account", account), ("topic", topic)))!;
        if (number == 1 && (long)(await ScalarAsync("select count(*) from topic where account = @account", ("account", account)))! > TopicLimits.MaxTopics)
        {
            return false;
        }

        var added = await ScalarAsync(
            "insert into topic_message (account, topic, seq, id, at, body) values (@account, @topic, @number, @id, @at, @body) "
            + "on conflict (account, topic, id) do nothing returning seq",
            ("account", account), ("topic", topic), ("number", number), ("id", id), ("at", at.ToUnixTimeMilliseconds()), ("body", body));
        if (added is not null)
        {
            await transaction.CommitAsync(cancellationToken);
        }

        // A repeat takes no number: what is not committed is undone.
        return true;

        async Task<object?> ScalarAsync(string text, params (string Name, object Value)[] parameters)
        {
            await using var command = connection.CreateCommand();
            command.Transaction = transaction;
            command.CommandText = text;
            foreach (var (name, value) in parameters)
            {
                var parameter = command.CreateParameter();
                (parameter.ParameterName, parameter.Value) = (name, value);
                command.Parameters.Add(parameter);
            }

            return await command.ExecuteScalarAsync(cancellationToken);
        }
    }

    public async Task<IReadOnlyList<TopicMessage>> ReadAsync(string account, string topic, long after, int limit, CancellationToken cancellationToken)
    {
        // No more than the messages that fit, so that a page of large ones is a small page.
        const string Page =
            "select seq, id, at, body, sum(length(body)) over (order by seq) as bytes from "
            + "(select seq, id, at, body from topic_message where account = @account and topic = @topic and seq > @after order by seq limit @limit) p";
        return await database.QueryAsync(
            $"select seq, id, at, body from ({Page}) q where bytes <= @most or bytes = length(body) order by seq",
            [("account", account), ("topic", topic), ("after", after), ("limit", limit), ("most", MaxPageBytes)],
            row => new TopicMessage(row.GetInt64(0), row.GetString(1), DateTimeOffset.FromUnixTimeMilliseconds(row.GetInt64(2)), row.GetFieldValue<byte[]>(3)),
            cancellationToken);
    }

    public async Task<IReadOnlyList<TopicSummary>> ListAsync(string account, string? after, int limit, CancellationToken cancellationToken) =>
        await database.QueryAsync(
            "select name, coalesce((select min(seq) from topic_message m where m.account = t.account and m.topic = t.name), last_seq + 1), last_seq "
            + "from topic t where account = @account and name > @after order by name limit @limit",
            [("account", account), ("after", after ?? ""), ("limit", limit)],
            row => new TopicSummary(row.GetString(0), row.GetInt64(1), row.GetInt64(2)),
            cancellationToken);

    public async Task<bool> DeleteAsync(string account, string topic, CancellationToken cancellationToken)
    {
        // The topic's row first, so that who adds a message meanwhile waits and begins a new topic.
        var gone = await database.QueryAsync(
            "delete from topic where account = @account and name = @topic returning 1", [("account", account), ("topic", topic)], _ => 0, cancellationToken);
        return gone.Count > 0;
    }

    public async Task<bool> PurgeAsync(DateTimeOffset? before, int keep, int limit, CancellationToken cancellationToken)
    {
        var old = before is null ? 0 : await CountAsync(
            "delete from topic_message where (account, topic, seq) in (select account, topic, seq from topic_message where at < @before order by at limit @limit) returning 1",
            ("before", before.Value.ToUnixTimeMilliseconds()), ("limit", limit));
        var many = await CountAsync(
            "delete from topic_message where (account, topic, seq) in (select m.account, m.topic, m.seq from topic t join topic_message m "
            + "on m.account = t.account and m.topic = t.name and m.seq <= t.last_seq - @keep limit @limit) returning 1",
            ("keep", (long)keep), ("limit", limit));
        return old == limit || many == limit;

        async Task<int> CountAsync(string text, params (string, object)[] parameters) =>
            (await database.QueryAsync(text, parameters, _ => 0, cancellationToken)).Count;
    }
}
