using Orleans.Concurrency;

namespace GpuTasks.Security;

/// <summary>One change that somebody made. It never holds what was sent.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.AuditEntry")]
public sealed record AuditEntry
{
    /// <summary>When it was done.</summary>
    [Id(0)] public required DateTimeOffset At { get; init; }

    /// <summary>Id of the request, as answered in <c>X-Fc-Request-Id</c>.</summary>
    [Id(1)] public required string RequestId { get; init; }

    /// <summary>Account that it concerns; empty for none.</summary>
    [Id(2)] public required string Account { get; init; }

    /// <summary>Who did it: <c>operator</c>, or the key's kind and id.</summary>
    [Id(3)] public required string Actor { get; init; }

    /// <summary>What was done, such as <c>CreateFunction</c>.</summary>
    [Id(4)] public required string Action { get; init; }

    /// <summary>What it was done to: the request's path and query.</summary>
    [Id(5)] public required string Resource { get; init; }

    /// <summary>Address that the request came from.</summary>
    [Id(6)] public required string Source { get; init; }

    /// <summary>HTTP status of the answer.</summary>
    [Id(7)] public required int Status { get; init; }
}

/// <summary>One page of the audit log.</summary>
/// <param name="Entries">Latest first.</param>
/// <param name="NextToken">Token to go on with; null on the last page.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.AuditPage")]
public sealed record AuditPage([property: Id(0)] IReadOnlyList<AuditEntry> Entries, [property: Id(1)] string? NextToken);

/// <summary>The log of changes. Stateless; any key.</summary>
[Alias("GpuTasks.IAuditGrain")]
public interface IAuditGrain : IGrainWithStringKey
{
    /// <summary>Keeps an entry durably.</summary>
    [Alias("Append")]
    Task Append(AuditEntry entry, CancellationToken cancellationToken = default);

    /// <summary>Entries, latest first.</summary>
    /// <param name="account">Account, or null for all.</param>
    /// <param name="token">Token of the page before, or null.</param>
    /// <param name="limit">1 to 100.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="FormatException">The token is not one of ours.</exception>
    [Alias("List"), ReadOnly]
    Task<AuditPage> List(string? account, string? token, int limit, CancellationToken cancellationToken = default);
}
