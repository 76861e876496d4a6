using GpuTasks.Store;
using Orleans.Concurrency;

namespace GpuTasks.Security;

/// <summary>Way to the log of changes for processes that do not have the store.</summary>
[GrainType("audit"), StatelessWorker]
public sealed class AuditGrain(IAuditLog log) : Grain, IAuditGrain
{
    /// <inheritdoc />
    public Task Append(AuditEntry entry, CancellationToken cancellationToken = default) => log.AppendAsync(entry, cancellationToken);

    /// <inheritdoc />
    public Task<AuditPage> List(string? account, string? token, int limit, CancellationToken cancellationToken = default) =>
        log.ListAsync(account, token, limit, cancellationToken);
}
