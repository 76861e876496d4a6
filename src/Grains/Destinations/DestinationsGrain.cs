using GpuTasks.Store;
using GpuTasks.Tasks;
using Orleans.Concurrency;

namespace GpuTasks.Destinations;

/// <summary>Reads dead letters and topics from the store; holds nothing, so any silo may answer and calls may interleave.</summary>
[GrainType("destinations")]
[StatelessWorker, Reentrant]
public sealed class DestinationsGrain(IDeadLetterIndex index, ITopicStore topics) : Grain, IDestinationsGrain
{
    private const int Page = 100;
    private const int MostReplayed = 1_000;
    private const int AtOnce = 16;

    private string Account => this.GetPrimaryKeyString();

    /// <inheritdoc />
    public async Task<DeadLetterPage> ListDeadLetters(string? function, string? token, int limit, CancellationToken cancellationToken = default)
    {
        var (tasks, next) = await index.ListAsync(Account, function, before: null, token, limit, cancellationToken);
        return new DeadLetterPage([.. tasks.Select(task => task.ToDeadLetter(message: null)).OfType<DeadLetterView>()], next);
    }

    /// <inheritdoc />
    public async Task<ReplayResult> Replay(string? function, DateTimeOffset before, CancellationToken cancellationToken = default)
    {
        var (replayed, token) = (0, (string?)null);
        do
        {
            (var tasks, token) = await index.ListAsync(Account, function, before, token, Page, cancellationToken);
            foreach (var some in tasks.Chunk(AtOnce))
            {
                var outcomes = await Task.WhenAll(some.Select(task => GrainFactory.GetGrain<ITaskGrain>(task.Key!.Value.ToString()).Redeliver(CancellationToken.None)));
                replayed += outcomes.Count(done => done);
            }
        }
        while (token is not null && replayed < MostReplayed);
        return new ReplayResult(replayed, token is not null);
    }

    /// <inheritdoc />
    public Task<IReadOnlyList<TopicSummary>> ListTopics(string? after, int limit, CancellationToken cancellationToken = default) =>
        topics.ListAsync(Account, after, limit, cancellationToken);

    /// <inheritdoc />
    public Task<IReadOnlyList<TopicMessage>> ReadTopic(string topic, long after, int limit, CancellationToken cancellationToken = default) =>
        topics.ReadAsync(Account, topic, after, limit, cancellationToken);

    /// <inheritdoc />
    public Task<bool> DeleteTopic(string topic, CancellationToken cancellationToken = default) => topics.DeleteAsync(Account, topic, cancellationToken);
}
