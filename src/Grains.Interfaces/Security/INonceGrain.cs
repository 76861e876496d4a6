namespace GpuTasks.Security;

/// <summary>
/// The nonces of one access key that could still be replayed, for all gateways, in memory. Key: access key id. What it
/// remembers goes with its silo.
/// </summary>
[Alias("GpuTasks.INonceGrain")]
public interface INonceGrain : IGrainWithStringKey
{
    /// <summary>Remembers a nonce.</summary>
    /// <param name="nonce">Nonce of a request whose signature is right.</param>
    /// <param name="date">Date that it was signed with.</param>
    /// <param name="skew">How old a date may be.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    [Alias("Use")]
    Task<NonceVerdict> Use(string nonce, DateTimeOffset date, TimeSpan skew, CancellationToken cancellationToken = default);
}

/// <summary>What became of a nonce. Numbers never change.</summary>
public enum NonceVerdict
{
    /// <summary>It was new and is remembered now.</summary>
    Fresh = 0,

    /// <summary>It was used before.</summary>
    Used = 1,

    /// <summary>Its date is older than what is still remembered, so that a repeat could not be told.</summary>
    TooOld = 2,
}
