using GpuTasks.Security;

namespace GpuTasks.Destinations;

/// <summary>A secret to sign with.</summary>
public sealed record WebhookSecret
{
    /// <summary>Of the form <c>whsec_BASE64</c>.</summary>
    [Secret] public required string Secret { get; init; }

    /// <summary>When it was made.</summary>
    public required DateTimeOffset CreatedAt { get; init; }

    /// <summary>From when on nothing is signed with it; null for never.</summary>
    public DateTimeOffset? ExpiresAt { get; init; }
}

/// <summary>Stored row of an account's webhook secrets; JSON by property name, so a rename is a migration.</summary>
public sealed record WebhookSecrets
{
    /// <summary>The newest first; at most two.</summary>
    public IReadOnlyList<WebhookSecret> Secrets { get; init; } = [];

    /// <summary>Those that are signed with at a time.</summary>
    public IEnumerable<WebhookSecret> ValidAt(DateTimeOffset now) => Secrets.Where(one => one.ExpiresAt is null || now < one.ExpiresAt);

    /// <summary>With another secret in the place of the newest, which stays for a while. The same state for a repeat.</summary>
    public WebhookSecrets Rotate(string secret, TimeSpan overlap, DateTimeOffset now)
    {
        if (Secrets is [{ ExpiresAt: null } newest, ..] && newest.Secret == secret)
        {
            return this;
        }

        var until = now + overlap;
        var previous = ValidAt(now).Where(one => one.Secret != secret).Take(1)
            .Select(one => one with { ExpiresAt = until < one.ExpiresAt ? until : one.ExpiresAt ?? until })
            .Where(one => now < one.ExpiresAt);
        return this with { Secrets = [new WebhookSecret { Secret = secret, CreatedAt = now }, .. previous] };
    }
}
