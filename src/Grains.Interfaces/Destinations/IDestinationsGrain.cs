using GpuTasks.Tasks;
using Orleans.Concurrency;

namespace GpuTasks.Destinations;

/// <summary>A message that could not be delivered.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.DeadLetterView")]
public sealed record DeadLetterView
{
    /// <summary>Task that it tells of.</summary>
    [Id(0)] public required TaskKey Key { get; init; }

    /// <summary>How that task ended.</summary>
    [Id(1)] public required GpuTaskStatus Status { get; init; }

    /// <summary>Id of the delivery, the same for each try and for replays.</summary>
    [Id(2)] public required string DeliveryId { get; init; }

    /// <summary>Destination as configured when the task was submitted.</summary>
    [Id(3)] public required string Target { get; init; }

    /// <summary>Deliveries tried.</summary>
    [Id(4)] public int Attempts { get; init; }

    /// <summary>Why the last of them was missed.</summary>
    [Id(5)] public string Fault { get; init; } = "";

    /// <summary>When the task ended.</summary>
    [Id(6)] public DateTimeOffset EndedAt { get; init; }

    /// <summary>When the delivery was given up.</summary>
    [Id(7)] public DateTimeOffset At { get; init; }

    /// <summary>Until when it can be replayed.</summary>
    [Id(8)] public DateTimeOffset KeptUntil { get; init; }

    /// <summary>What was to be delivered, JSON; null in lists.</summary>
    [Id(9)] public byte[]? Message { get; init; }
}

/// <summary>One page of dead letters.</summary>
/// <param name="DeadLetters">The earliest given up first.</param>
/// <param name="NextToken">Token to go on with; null on the last page.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.DeadLetterPage")]
public sealed record DeadLetterPage([property: Id(0)] IReadOnlyList<DeadLetterView> DeadLetters, [property: Id(1)] string? NextToken);

/// <summary>What a replay of many did.</summary>
/// <param name="Replayed">Messages that are being delivered again.</param>
/// <param name="IsMore">True if there are more; repeat the call.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.ReplayResult")]
public sealed record ReplayResult([property: Id(0)] int Replayed, [property: Id(1)] bool IsMore);

/// <summary>A message of a topic.</summary>
/// <param name="Sequence">Its number in the topic, from 1 on, without gaps.</param>
/// <param name="Id">Id of the delivery.</param>
/// <param name="At">When it was added.</param>
/// <param name="Body">JSON.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.TopicMessage")]
public sealed record TopicMessage(
    [property: Id(0)] long Sequence, [property: Id(1)] string Id, [property: Id(2)] DateTimeOffset At, [property: Id(3)] byte[] Body);

/// <summary>A topic.</summary>
/// <param name="Name">Name.</param>
/// <param name="First">Number of the oldest message that is kept, or of the next one if none is.</param>
/// <param name="Last">Number of the latest message.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.TopicSummary")]
public sealed record TopicSummary([property: Id(0)] string Name, [property: Id(1)] long First, [property: Id(2)] long Last);

/// <summary>Dead letters and topics of an account, read from the store. Stateless; key: account id, which is all it can see.</summary>
[Alias("GpuTasks.IDestinationsGrain")]
public interface IDestinationsGrain : IGrainWithStringKey
{
    /// <summary>One page of dead letters.</summary>
    /// <param name="function">Only of this function, or null for all.</param>
    /// <param name="token">Token of the page before, or null.</param>
    /// <param name="limit">1 to 100.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="FormatException">The token is not one of ours.</exception>
    [Alias("ListDeadLetters"), ReadOnly]
    Task<DeadLetterPage> ListDeadLetters(string? function, string? token, int limit, CancellationToken cancellationToken = default);

    /// <summary>Has dead letters delivered after all, the earliest first, up to 1,000 a call.</summary>
    /// <param name="function">Only of this function, or null for all.</param>
    /// <param name="before">Only those given up before this, so that a repeat does not take up what has failed again.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    [Alias("Replay")]
    Task<ReplayResult> Replay(string? function, DateTimeOffset before, CancellationToken cancellationToken = default);

    /// <summary>Topics by name, after <paramref name="after"/>.</summary>
    [Alias("ListTopics"), ReadOnly]
    Task<IReadOnlyList<TopicSummary>> ListTopics(string? after, int limit, CancellationToken cancellationToken = default);

    /// <summary>Messages of a topic after a number, ascending; none if there is no such topic.</summary>
    [Alias("ReadTopic"), ReadOnly]
    Task<IReadOnlyList<TopicMessage>> ReadTopic(string topic, long after, int limit, CancellationToken cancellationToken = default);

    /// <summary>Deletes a topic with its messages.</summary>
    /// <returns>False if there was none.</returns>
    [Alias("DeleteTopic")]
    Task<bool> DeleteTopic(string topic, CancellationToken cancellationToken = default);
}
