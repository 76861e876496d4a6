using Microsoft.Extensions.DependencyInjection;

namespace GpuTasks.Security;

/// <summary>Tells replays that come over another gateway. In memory, since a write for each request would cost more than it protects.</summary>
[GrainType("nonce")]
public sealed class NonceGrain([FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock) : Grain, INonceGrain
{
    private const int Capacity = 200_000;

    private NonceWindow? window;

    /// <inheritdoc />
    public Task<NonceVerdict> Use(string nonce, DateTimeOffset date, TimeSpan skew, CancellationToken cancellationToken = default)
    {
        window ??= new NonceWindow(Capacity, skew);

        // An activation that were collected earlier would forget what could still be replayed.
        DelayDeactivation(skew * 2);
        return Task.FromResult(window.Use(nonce, date, clock.GetUtcNow()));
    }
}
