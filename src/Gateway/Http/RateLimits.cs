using System.Threading.RateLimiting;
using GpuTasks.Gateway.Signing;
using Microsoft.Extensions.Options;

namespace GpuTasks.Gateway.Http;

/// <summary>
/// Requests of each account by a bucket of tokens, in this gateway: several gateways together allow several times as much. The
/// operator has no limit.
/// </summary>
internal sealed class RateLimits(IOptions<GatewayOptions> options) : IDisposable
{
    private readonly PartitionedRateLimiter<Caller> limiter = PartitionedRateLimiter.Create<Caller, (string, int, int)>(caller =>
    {
        var rate = caller.Settings?.RequestsPerSecond ?? options.Value.RequestsPerSecond;
        return caller.Account is null || rate == 0
            ? RateLimitPartition.GetNoLimiter(("", 0, 0))
            // A changed limit is another bucket, so it is in force at once.
            : RateLimitPartition.GetTokenBucketLimiter((caller.Account, rate, caller.Settings?.RequestBurst ?? (2 * rate)), bucket => new TokenBucketRateLimiterOptions
            {
                TokenLimit = bucket.Item3,
                TokensPerPeriod = Math.Max(1, bucket.Item2 / 10),
                ReplenishmentPeriod = TimeSpan.FromSeconds(Math.Max(1, bucket.Item2 / 10) / (double)bucket.Item2),
                QueueLimit = 0,
                AutoReplenishment = true,
            });
    });

    /// <exception cref="ApiException">The account has used up what it may ask for just now.</exception>
    public void Take(Caller caller)
    {
        using var lease = limiter.AttemptAcquire(caller);
        if (!lease.IsAcquired)
        {
            var wait = lease.TryGetMetadata(MetadataName.RetryAfter, out var after) ? after : TimeSpan.FromSeconds(1);
            throw ApiErrors.RateLimited(Math.Max(1, (int)Math.Ceiling(wait.TotalSeconds)));
        }
    }

    public void Dispose() => limiter.Dispose();
}
