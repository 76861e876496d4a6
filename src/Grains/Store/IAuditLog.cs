using GpuTasks.Security;

namespace GpuTasks.Store;

/// <summary>The log of changes in the store.</summary>
public interface IAuditLog
{
    /// <summary>Keeps an entry durably.</summary>
    Task AppendAsync(AuditEntry entry, CancellationToken cancellationToken);

    /// <summary>Entries of one account, or of all, latest first.</summary>
    /// <exception cref="FormatException">The token is not one of ours.</exception>
    Task<AuditPage> ListAsync(string? account, string? token, int limit, CancellationToken cancellationToken);

    /// <summary>Deletes the oldest entries that were made before a time.</summary>
    /// <returns>Entries deleted; fewer than <paramref name="limit"/> when no more are there.</returns>
    Task<int> PurgeAsync(DateTimeOffset before, int limit, CancellationToken cancellationToken);
}
