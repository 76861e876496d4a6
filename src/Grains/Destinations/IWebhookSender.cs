namespace GpuTasks.Destinations;

/// <summary>One delivery by webhook.</summary>
/// <param name="Account">Whose.</param>
/// <param name="Url">Where to.</param>
/// <param name="Id">The same for each try of one delivery.</param>
/// <param name="Body">JSON, the same for each try.</param>
/// <param name="Secrets">Secrets to sign with, the newest first.</param>
public sealed record WebhookCall(string Account, Uri Url, string Id, byte[] Body, IReadOnlyList<string> Secrets);

/// <summary>Sends webhooks. It keeps nothing: who calls it tries again.</summary>
public interface IWebhookSender
{
    /// <summary>Why a target may not be used by the operator's rules, or null. Names are not looked up here: that is done for each connection.</summary>
    string? Refuse(Uri url);

    /// <summary>Sends once, within the time that the operator set and a few seconds of waiting for a place.</summary>
    /// <returns>Null if it was accepted; else why not.</returns>
    Task<DeliveryFault?> SendAsync(WebhookCall call);
}
