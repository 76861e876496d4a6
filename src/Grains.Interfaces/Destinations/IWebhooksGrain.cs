using Orleans.Concurrency;

namespace GpuTasks.Destinations;

/// <summary>When a webhook secret was made and ends; never what it is.</summary>
/// <param name="CreatedAt">When it was made.</param>
/// <param name="ExpiresAt">From when on nothing is signed with it; null for never.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.WebhookSecretView")]
public sealed record WebhookSecretView([property: Id(0)] DateTimeOffset CreatedAt, [property: Id(1)] DateTimeOffset? ExpiresAt);

/// <summary>Secrets that an account's webhooks are signed with. Key: account id.</summary>
[Alias("GpuTasks.IWebhooksGrain")]
public interface IWebhooksGrain : IGrainWithStringKey
{
    /// <summary>The valid ones, the newest first; at most two. None if none was set and nothing was signed yet.</summary>
    [Alias("GetSecrets"), ReadOnly]
    Task<IReadOnlyList<WebhookSecretView>> GetSecrets(CancellationToken cancellationToken = default);

    /// <summary>The valid ones in the clear, the newest first; makes one if there is none, so that nothing goes out unsigned.</summary>
    [Alias("GetSigningSecrets")]
    Task<IReadOnlyList<string>> GetSigningSecrets(CancellationToken cancellationToken = default);

    /// <summary>Makes a secret the one to sign with. Harmless to repeat.</summary>
    /// <param name="secret">Of the form <c>whsec_BASE64</c>, 24 to 64 bytes.</param>
    /// <param name="overlap">For how long what was valid so far is signed with too.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The valid ones, the newest first.</returns>
    [Alias("Rotate")]
    Task<IReadOnlyList<WebhookSecretView>> Rotate(string secret, TimeSpan overlap, CancellationToken cancellationToken = default);

    /// <summary>Why the operator's rules forbid a webhook, or null.</summary>
    [Alias("Refuse"), ReadOnly]
    Task<string?> Refuse(string url, CancellationToken cancellationToken = default);
}
