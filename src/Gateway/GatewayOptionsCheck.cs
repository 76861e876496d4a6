using GpuTasks.Gateway.Keys;
using Microsoft.Extensions.Options;

namespace GpuTasks.Gateway;

/// <summary>Tells every fault of the gateway's settings and keys file at once, at start.</summary>
internal sealed class GatewayOptionsCheck : IValidateOptions<GatewayOptions>
{
    public ValidateOptionsResult Validate(string? name, GatewayOptions options)
    {
        var faults = new List<string>();
        if (options.Region is not { Length: > 0 and <= 64 } || !options.Region.All(c => char.IsAsciiLetterOrDigit(c) || c == '-'))
        {
            faults.Add($"{GatewayOptions.Section}:Region must be 1 to 64 letters, digits or '-', was '{options.Region}'.");
        }

        Range(nameof(options.MaxAsyncPayloadBytes), options.MaxAsyncPayloadBytes, 1, 262_144);
        Range(nameof(options.MaxSyncPayloadBytes), options.MaxSyncPayloadBytes, 1, 33_554_432);
        Range(nameof(options.MaxManagementBodyBytes), options.MaxManagementBodyBytes, 1_024, 16_777_216);
        Range(nameof(options.MaxBatchBodyBytes), options.MaxBatchBodyBytes, 1_024, 268_435_456);
        Range(nameof(options.MaxBufferedBytes), options.MaxBufferedBytes, 33_554_432, 17_179_869_184);
        Range(nameof(options.SignatureSkewMinutes), options.SignatureSkewMinutes, 1, 60);
        Range(nameof(options.NonceWindow), options.NonceWindow, 1_000, 5_000_000);
        Range(nameof(options.RequestsPerSecond), options.RequestsPerSecond, 0, 1_000_000);
        if (options.PublicUrl.Length > 0 && !(Uri.TryCreate(options.PublicUrl, UriKind.Absolute, out var url) && (url.Scheme is "http" or "https")))
        {
            faults.Add($"{GatewayOptions.Section}:PublicUrl must be an http or https address, was '{options.PublicUrl}'.");
        }

        Range(nameof(options.SyncQueueSeconds), options.SyncQueueSeconds, 0, 3_600);

        if (string.IsNullOrWhiteSpace(options.KeysFile))
        {
            faults.Add($"{GatewayOptions.Section}:KeysFile must name the file with accounts and keys.");
        }
        else
        {
            var wrong = new List<string>();
            KeyStore.Read(options.KeysFile, wrong);
            faults.AddRange(wrong.Select(fault => $"{GatewayOptions.Section}:KeysFile '{options.KeysFile}': {fault}."));
        }

        return faults.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(faults);

        void Range(string setting, long value, long min, long max)
        {
            if (value < min || value > max)
            {
                faults.Add($"{GatewayOptions.Section}:{setting} must be from {min} to {max}, was {value}.");
            }
        }
    }
}
