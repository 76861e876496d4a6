using GpuTasks.Store;
using Microsoft.Extensions.DependencyInjection;

namespace GpuTasks.Destinations;

/// <summary>Keeps an account's webhook secrets: <see cref="WebhookSecrets"/> decides, each change is written before it is used.</summary>
[GrainType("webhooks")]
public sealed class WebhooksGrain(
    [PersistentState(StoreNames.Webhooks, StoreNames.Provider)] IPersistentState<WebhookSecrets> store,
    IWebhookSender sender,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock) : Grain, IWebhooksGrain
{
    /// <inheritdoc />
    public Task<IReadOnlyList<WebhookSecretView>> GetSecrets(CancellationToken cancellationToken = default) => Task.FromResult(Shown());

    /// <inheritdoc />
    public async Task<IReadOnlyList<string>> GetSigningSecrets(CancellationToken cancellationToken = default)
    {
        if (!store.State.ValidAt(clock.GetUtcNow()).Any())
        {
            await Rotate(WebhookSignature.NewSecret(), TimeSpan.Zero, cancellationToken);
        }

        return [.. store.State.ValidAt(clock.GetUtcNow()).Select(one => one.Secret)];
    }

    /// <inheritdoc />
    public async Task<IReadOnlyList<WebhookSecretView>> Rotate(string secret, TimeSpan overlap, CancellationToken cancellationToken = default)
    {
        var next = WebhookSignature.IsSecret(secret)
            ? store.State.Rotate(secret, overlap, clock.GetUtcNow())
            : throw new ArgumentException("A webhook secret is whsec_ and 24 to 64 bytes as base64.", nameof(secret));
        if (!ReferenceEquals(next, store.State))
        {
            store.State = next;
            try
            {
                await store.WriteStateAsync(CancellationToken.None);
            }
            catch
            {
                // A failed write may have landed: reload, never guess.
                this.DeactivateOnIdle();
                throw;
            }
        }

        return Shown();
    }

    /// <inheritdoc />
    public Task<string?> Refuse(string url, CancellationToken cancellationToken = default) => Task.FromResult(
        DestinationTarget.TryParse(url, out var target) && target.Webhook is { } webhook ? sender.Refuse(webhook) : "is no webhook");

    private IReadOnlyList<WebhookSecretView> Shown() =>
        [.. store.State.ValidAt(clock.GetUtcNow()).Select(one => new WebhookSecretView(one.CreatedAt, one.ExpiresAt))];
}
