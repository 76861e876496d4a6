using GpuTasks.Destinations;

namespace GpuTasks.Store;

/// <summary>Limits of topics.</summary>
public static class TopicLimits
{
    /// <summary>Most topics of an account.</summary>
    public const int MaxTopics = 1_000;
}

/// <summary>
/// Internal topics: messages in the order of their numbers, which begin at 1 and have no gaps, so that who has read up to a
/// number misses nothing by going on after it. They are kept by age and by number.
/// </summary>
public interface ITopicStore
{
    /// <summary>Adds a message durably; a repeat of its id adds nothing.</summary>
    /// <returns>False if the account may have no further topic.</returns>
    Task<bool> AppendAsync(string account, string topic, string id, DateTimeOffset at, byte[] body, CancellationToken cancellationToken);

    /// <summary>Messages after a number, ascending.</summary>
    Task<IReadOnlyList<TopicMessage>> ReadAsync(string account, string topic, long after, int limit, CancellationToken cancellationToken);

    /// <summary>Topics by name, after <paramref name="after"/>.</summary>
    Task<IReadOnlyList<TopicSummary>> ListAsync(string account, string? after, int limit, CancellationToken cancellationToken);

    /// <summary>Deletes a topic with its messages. Its numbers start again if it is used again.</summary>
    /// <returns>False if there was none.</returns>
    Task<bool> DeleteAsync(string account, string topic, CancellationToken cancellationToken);

    /// <summary>Deletes messages added before a time, and those that are more than a topic may keep.</summary>
    /// <param name="before">Null for no limit of age.</param>
    /// <param name="keep">Messages that a topic may keep.</param>
    /// <param name="limit">Most messages to delete of each sort.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>True if there may be more.</returns>
    Task<bool> PurgeAsync(DateTimeOffset? before, int keep, int limit, CancellationToken cancellationToken);
}
